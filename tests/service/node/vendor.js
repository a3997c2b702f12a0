// Renews pipeline/service/page/vendor from the packages that package-lock.json pins: npm ci && npm run vendor
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const VENDOR = join(HERE, "../../../pipeline/service/page/vendor");

// One file for each purpose. preact, its hooks and htm name each other as bare modules, which a page
// can only resolve with an inline import map, and its content security policy forbids that.
const FILES = {
  "preact.js": {
    packages: ["preact", "htm"],
    source: `export { h, render, Fragment } from "preact";
      export { useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback } from "preact/hooks";
      export { html } from "htm/preact";`,
  },
  "virtual-core.js": {
    packages: ["@tanstack/virtual-core"],
    source: `export { Virtualizer, observeElementRect, observeElementOffset, elementScroll }
      from "@tanstack/virtual-core";`,
  },
  "uplot.js": { packages: ["uplot"], source: `export { default } from "uplot";` },
  "uplot.css": { packages: ["uplot"], copy: "uplot/dist/uPlot.min.css" },
};

const about = (name) => JSON.parse(readFileSync(join(HERE, "node_modules", name, "package.json"), "utf8"));
const hash = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");

mkdirSync(VENDOR, { recursive: true });
for (const name of readdirSync(VENDOR)) {
  if (name.startsWith("LICENSE.")) rmSync(join(VENDOR, name));
}
const files = [];
for (const [file, { packages, source, copy }] of Object.entries(FILES)) {
  const path = join(VENDOR, file);
  if (copy) {
    copyFileSync(join(HERE, "node_modules", copy), path);
  } else {
    await build({
      stdin: { contents: source, resolveDir: HERE },
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      legalComments: "none",
      outfile: path,
      logLevel: "warning",
      define: { "process.env.NODE_ENV": '"production"' },
    });
  }
  files.push({
    file,
    sha256: hash(path),
    packages: packages.map((name) => {
      const { version, license } = about(name);
      const kept = `LICENSE.${name.replace("@", "").replace("/", "-")}`;
      copyFileSync(join(HERE, "node_modules", name, "LICENSE"), join(VENDOR, kept));
      return { name, version, license, license_file: kept, license_sha256: hash(join(VENDOR, kept)) };
    }),
  });
}
writeFileSync(join(VENDOR, "vendor.lock.json"), `${JSON.stringify({ files }, null, 2)}\n`);
