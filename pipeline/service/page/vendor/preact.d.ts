// For the type checker alone.
export { Fragment, h, render } from "../../../../tests/service/node/node_modules/preact/src/index.js";
export {
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "../../../../tests/service/node/node_modules/preact/hooks/src/index.js";
export { html } from "../../../../tests/service/node/node_modules/htm/preact/index.js";
