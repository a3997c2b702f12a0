// Draws up to some millions of points with WebGL 2. Our own, and small, because the libraries for this
// (regl-scatterplot, through regl) write JavaScript while they run, with `Function`, which the page's
// content security policy forbids: it has no 'unsafe-eval', and keeps it that way.

/** @typedef {{x: number, y: number, scale: number}} View The middle, and pixels of the canvas for the whole map. */

const VERTEX = `#version 300 es
in vec2 place;
in uint kind;
in uint mark;
uniform vec2 middle, stretch;
uniform float size, dim;
uniform sampler2D palette;
out vec4 color;
void main() {
  gl_Position = vec4((place - middle) * stretch, mark > 0u ? 0.0 : 0.5, 1.0);
  gl_PointSize = mark > 0u ? size * 1.3 : size;
  color = texelFetch(palette, ivec2(int(kind), 0), 0);
  if (mark == 0u) color.a *= dim;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 color;
uniform float size;
out vec4 painted;
void main() {
  vec2 off = gl_PointCoord - 0.5;
  float edge = size > 3.0 ? 1.0 - smoothstep(0.4, 0.5, length(off)) : 1.0;
  painted = vec4(color.rgb, 1.0) * color.a * edge;
}`;

/**
 * @param {WebGL2RenderingContext} gl
 * @param {number} type
 * @param {string} source
 */
function shader(gl, type, source) {
  const made = /** @type {WebGLShader} */ (gl.createShader(type));
  gl.shaderSource(made, source);
  gl.compileShader(made);
  if (!gl.getShaderParameter(made, gl.COMPILE_STATUS) && !gl.isContextLost())
    throw new Error(gl.getShaderInfoLog(made) ?? "a shader does not compile");
  return made;
}

export class PointsDrawing {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Uint16Array} x
   * @param {Uint16Array} y
   */
  constructor(canvas, x, y) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: true, premultipliedAlpha: true });
    if (!gl)
      throw new Error(
        "This browser offers no WebGL 2, so the map cannot be drawn. The list of colors still selects rows.",
      );
    this.canvas = canvas;
    /** @type {WebGL2RenderingContext} */
    this.gl = gl;
    this.count = x.length;
    const program = /** @type {WebGLProgram} */ (gl.createProgram());
    gl.attachShader(program, shader(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost())
      throw new Error(gl.getProgramInfoLog(program) ?? "the shaders do not link");
    gl.useProgram(program);
    this.program = program;
    const places = new Uint16Array(2 * this.count);
    for (let at = 0; at < this.count; at += 1) {
      places[2 * at] = x[at];
      places[2 * at + 1] = y[at];
    }
    this.buffer("place", places, (slot) => gl.vertexAttribPointer(slot, 2, gl.UNSIGNED_SHORT, true, 0, 0));
    this.kinds = this.buffer("kind", new Uint8Array(this.count), (slot) =>
      gl.vertexAttribIPointer(slot, 1, gl.UNSIGNED_BYTE, 0, 0),
    );
    this.marks = this.buffer("mark", new Uint8Array(this.count), (slot) =>
      gl.vertexAttribIPointer(slot, 1, gl.UNSIGNED_BYTE, 0, 0),
    );
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.marked = false;
  }

  /**
   * @param {string} name
   * @param {ArrayBufferView} values
   * @param {(slot: number) => void} describe
   */
  buffer(name, values, describe) {
    const { gl } = this;
    const made = gl.createBuffer();
    const slot = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, made);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(slot);
    describe(slot);
    return made;
  }

  /**
   * @param {Uint8Array} kinds The color of each point, by its number in the palette.
   * @param {[number, number, number][]} palette At most 256 colors.
   */
  color(kinds, palette) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.kinds);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, kinds);
    const texels = new Uint8Array(256 * 4);
    palette.forEach((rgb, at) => texels.set([...rgb, 255], 4 * at));
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, texels);
  }

  /** @param {Uint8Array | null} marks Not 0: drawn larger, and the others faintly. */
  mark(marks) {
    const { gl } = this;
    this.marked = marks !== null;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.marks);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, marks ?? new Uint8Array(this.count));
  }

  /** @param {View} view */
  draw(view) {
    const { gl, canvas, program, count } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    /** @param {string} name */
    const slot = (name) => gl.getUniformLocation(program, name);
    // Fewer points and a closer look make larger dots.
    const size = Math.min(14, Math.max(1.5, (view.scale / Math.sqrt(count)) * 0.34)) * Math.min(2, devicePixelRatio);
    gl.uniform2f(slot("middle"), view.x, view.y);
    gl.uniform2f(slot("stretch"), (2 * view.scale) / canvas.width, (-2 * view.scale) / canvas.height);
    gl.uniform1f(slot("size"), size);
    gl.uniform1f(slot("dim"), (count > 100_000 ? 0.6 : 0.9) * (this.marked ? 0.3 : 1));
    gl.drawArrays(gl.POINTS, 0, count);
  }
}
