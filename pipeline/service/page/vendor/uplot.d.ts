// For the type checker alone.
export { default } from "../../../../tests/service/node/node_modules/uplot/dist/uPlot.js";
