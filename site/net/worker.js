// A net in a worker: the page stays alive while it computes. It knows nothing of files
// and pictures; it is told a grey image and answers with the net's logits.
importScripts("ort.wasm.min.js");

let session = null;
let facts = null; // net.json: classes, margin, step, and the sides of tiles

async function open() {
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // more would need a server that isolates the page
  ort.env.wasm.wasmPaths = new URL(".", self.location.href).href;
  facts = await (await fetch("net.json")).json();
  session = await ort.InferenceSession.create("net.onnx");
}

// Where pixel n of a mirrored axis is in an image of this size: reflect, as in Figure 2.
function mirrored(n, size) {
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const at = ((n % period) + period) % period;
  return at < size ? at : period - at;
}

// Mean 0 and deviation 1, summed in double precision as NumPy does.
function standardised(grey) {
  let sum = 0;
  for (const value of grey) sum += value;
  const mean = sum / grey.length;
  let squares = 0;
  for (const value of grey) squares += (value - mean) ** 2;
  const deviation = Math.sqrt(squares / grey.length) || 1;
  return Float32Array.from(grey, (value) => (value - mean) / deviation);
}

// A square window of the mirrored image, from (top, left), which may lie outside of it.
function windowOf(x, height, width, top, left, side) {
  const found = new Float32Array(side * side);
  for (let row = 0; row < side; row++) {
    const from = mirrored(top + row, height) * width;
    for (let column = 0; column < side; column++) {
      found[row * side + column] = x[from + mirrored(left + column, width)];
    }
  }
  return found;
}

// The overlap-tile strategy: logits (K, height, width) of an image of any size.
async function ask(grey, height, width, progress) {
  const x = standardised(grey);
  const { margin, step, classes } = facts;
  const tile = height <= facts.small && width <= facts.small ? facts.small : facts.tile;
  const side = tile + 2 * margin; // of the input tile
  const stride = tile - (tile % step); // tiles begin at multiples of the step
  const rows = Math.max(1, Math.ceil((height - (tile - stride)) / stride));
  const columns = Math.max(1, Math.ceil((width - (tile - stride)) / stride));
  const logits = new Float32Array(classes * height * width);
  for (let number = 0; number < rows * columns; number++) {
    const top = Math.floor(number / columns) * stride;
    const left = (number % columns) * stride;
    const part = windowOf(x, height, width, top - margin, left - margin, side);
    const image = new ort.Tensor("float32", part, [1, 1, side, side]);
    const answer = (await session.run({ image })).logits;
    const tall = Math.min(tile, height - top);
    const wide = Math.min(tile, width - left);
    for (let k = 0; k < classes; k++) {
      for (let row = 0; row < tall; row++) {
        const from = (k * tile + row) * tile;
        const to = (k * height + top + row) * width + left;
        logits.set(answer.data.subarray(from, from + wide), to);
      }
    }
    progress((number + 1) / (rows * columns));
  }
  return logits;
}

const ready = open();

self.onmessage = async ({ data: { id, grey, height, width } }) => {
  try {
    await ready;
    const report = (done) => self.postMessage({ id, done });
    const logits = await ask(grey, height, width, report);
    self.postMessage({ id, logits }, [logits.buffer]);
  } catch (error) {
    self.postMessage({ id, error: String(error.message || error) });
  }
};
