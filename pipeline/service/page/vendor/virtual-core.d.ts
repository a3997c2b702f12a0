// For the type checker alone; not part of the wheel.
export * from "../../../../tests/service/node/node_modules/@tanstack/virtual-core/dist/esm/index.js";
