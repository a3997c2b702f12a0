// The shapes of the service's answers, for the type checker; nothing here runs.

/**
 * @typedef {object} CameraRows
 * @property {string} camera
 * @property {number} rows
 */

/**
 * @typedef {object} Summary A gallery, as the service describes it.
 * @property {string} gallery
 * @property {string} location
 * @property {number} version
 * @property {string} fingerprint
 * @property {number} rows
 * @property {number} dimension
 * @property {string} dtype
 * @property {Record<string, unknown>} recipe
 * @property {CameraRows[]} cameras
 * @property {number} identities
 * @property {string | null} first_time
 * @property {string | null} last_time
 * @property {number | null} threshold
 * @property {string | null} threshold_from
 * @property {Calibrated[]} calibration
 * @property {{same: number, different: number}} verdicts
 * @property {boolean} tracklets
 * @property {boolean} frames
 */

/** @typedef {{threshold: number, false_match_rate: number}} Calibrated */

/** @typedef {{verdicts: boolean, erase: boolean}} Allowed */

/**
 * @typedef {object} Row
 * @property {number} row_id
 * @property {string} path
 * @property {number | null} identity
 * @property {string | null} camera
 * @property {string | null} captured_at
 * @property {string | null} captured_until
 * @property {number | null} frame
 * @property {string | null} tracklet
 * @property {number | null} boxes
 * @property {number | null} height
 * @property {number | null} width
 * @property {number | null} quality
 * @property {string} [gallery]
 */

/** @typedef {Row & {rank: number, score: number, match: boolean | null}} Hit */

/** @typedef {[number, number, number, number]} Box x, y, width and height in pixels */

/**
 * @typedef {object} Found The answer to a search.
 * @property {number} version
 * @property {number} took_ms
 * @property {number | null} threshold
 * @property {string | null} threshold_from
 * @property {{query: Record<string, unknown>, hits: Hit[]}[]} results
 */

/**
 * @typedef {object} Person
 * @property {number} identity
 * @property {number} rows
 * @property {string[]} cameras
 * @property {string | null} first_time
 * @property {string | null} last_time
 * @property {number[]} row_ids
 */

/** @typedef {"same" | "different" | "withdrawn"} Word */

/** @typedef {{a: number, b: number, verdict: Word}} Verdict */

/** @typedef {{a: Row, b: Row, score: number, gain?: number}} Pair */

/**
 * @typedef {object} Reject
 * @property {string} path
 * @property {string} reason
 */

/**
 * @typedef {object} Job
 * @property {string} job
 * @property {string} kind
 * @property {"running" | "done" | "failed"} state
 * @property {{done: number, total: number | null, label: string | null} | null} progress
 * @property {any} result
 * @property {string | {message: string} | null} error
 */

/**
 * @typedef {object} Points The columns of all rows, in the order of their ids.
 * @property {number} rows
 * @property {Uint16Array} x
 * @property {Uint16Array} y
 * @property {Int32Array} identity
 * @property {Uint16Array} camera
 * @property {Uint16Array} time
 * @property {string[]} cameras
 * @property {[string, string] | null} span
 */

/**
 * @typedef {object} Place Where the page is, as its address says.
 * @property {string} gallery
 * @property {string} room
 * @property {string} part
 * @property {URLSearchParams} query
 */

/**
 * @typedef {object} Room What every room is given.
 * @property {Summary} summary
 * @property {Allowed} allow
 * @property {boolean} images Whether a network is loaded, so that images can be searched.
 * @property {Place} place
 * @property {number} changes Grows when the gallery or its verdicts change.
 */

export {};
