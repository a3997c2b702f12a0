// For the type checker alone.
export * from "../../../../tests/service/node/node_modules/@tanstack/virtual-core/dist/esm/index.js";
