// For the type checker alone; not part of the wheel.
export { default } from "../../../../tests/service/node/node_modules/uplot/dist/uPlot.js";
