// The page: a picture in, a mask out, a threshold to move. Nothing is sent anywhere.
(function () {
  const root = document.getElementById("unet");
  if (!root) return;
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const canvas = part("canvas");
  const pen = canvas.getContext("2d");
  const folder = new URL(root.dataset.folder, document.baseURI);
  const MOST = 2048; // pixels of a side
  const PREDICTED = [86, 180, 233]; // ROLES["prediction"] of the module show

  const worker = new Worker(new URL("worker.js", folder));
  const waiting = new Map(); // number of a question: what to do with its answer
  let questions = 0;
  let chosen = 0; // images so far: only the newest is shown
  let shown = null; // { name, grey, height, width, p }

  function say(text) {
    part("status").textContent = text;
  }

  worker.onerror = (event) => say(`The net could not be started: ${event.message}`);
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    if (data.done) return say(`Asking the net: ${Math.round(100 * data.done)} %`);
    waiting.delete(data.id);
    if (data.error) reject(new Error(data.error));
    else resolve(data.logits);
  };

  // Logits (2, height, width) of grey values from 0 to 255.
  function ask(grey, height, width) {
    const id = ++questions;
    const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
    worker.postMessage({ id, grey, height, width });
    return answer;
  }

  // Colours become grey with the weights of ITU-R 601, rounded as Pillow rounds them.
  function greyOf(pixels) {
    const grey = new Float32Array(pixels.length / 4);
    for (let n = 0; n < grey.length; n++) {
      const [r, g, b] = [pixels[4 * n], pixels[4 * n + 1], pixels[4 * n + 2]];
      grey[n] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
    }
    return grey;
  }

  async function read(blob, name) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(blob);
    } catch {
      const text = "is no image that a browser can open; PNG, JPEG or WebP would work";
      throw new Error(`${name} ${text}`);
    }
    const { width, height } = bitmap;
    if (Math.max(width, height) > MOST) {
      const text = `this page takes up to ${MOST} a side, unet-tutorial predict any size`;
      throw new Error(`${name} has ${width} x ${height} pixels; ${text}`);
    }
    const room = new OffscreenCanvas(width, height);
    const sheet = room.getContext("2d", { willReadFrequently: true });
    sheet.drawImage(bitmap, 0, 0);
    const pixels = sheet.getImageData(0, 0, width, height).data;
    return { name, grey: greyOf(pixels), height, width };
  }

  // Probability of class 1: the soft-max of two logits.
  function probabilities(logits, count) {
    const p = new Float32Array(count);
    for (let n = 0; n < count; n++) {
      p[n] = 1 / (1 + Math.exp(logits[n] - logits[count + n]));
    }
    return p;
  }

  // The image that is shown, in colours 0, 1 and 2: ink(grey, colour) where the
  // net finds something, paper(grey) elsewhere.
  function painted(ink, paper) {
    const { grey, height, width, p } = shown;
    const threshold = Number(part("threshold").value);
    const picture = new ImageData(width, height);
    let inside = 0;
    for (let n = 0; n < grey.length; n++) {
      const found = p && p[n] > threshold;
      inside += found ? 1 : 0;
      for (let c = 0; c < 3; c++) {
        picture.data[4 * n + c] = found ? ink(grey[n], c) : paper(grey[n]);
      }
      picture.data[4 * n + 3] = 255;
    }
    return { picture, inside };
  }

  function draw() {
    if (!shown) return;
    const { height, width } = shown;
    const opacity = part("mask").checked ? 0.6 : 0;
    part("threshold-value").textContent = Number(part("threshold").value).toFixed(2);
    canvas.width = width;
    canvas.height = height;
    const mixed = (grey, c) => grey + (PREDICTED[c] - grey) * opacity;
    const { picture, inside } = painted(mixed, (grey) => grey);
    pen.putImageData(picture, 0, 0);
    if (!shown.p) return;
    const share = ((100 * inside) / (height * width)).toFixed(1);
    canvas.setAttribute("aria-label", `${shown.name}: ${share} % of the pixels are mask`);
    say(`${shown.name}: ${width} x ${height} pixels, ${share} % of them membrane`);
  }

  // Show an image and its mask; `blob` may also be the promise of one.
  async function take(blob, name) {
    const mine = ++chosen;
    root.dataset.state = "busy";
    part("save").disabled = true;
    try {
      say(`Reading ${name}`);
      const image = await read(await blob, name);
      if (mine !== chosen) return; // another one has been chosen meanwhile
      shown = image;
      draw();
      say(questions ? "Asking the net" : "Fetching the net, once: 13 MB");
      const logits = await ask(image.grey, image.height, image.width);
      if (mine !== chosen) return;
      image.p = probabilities(logits, image.grey.length);
      draw();
      part("save").disabled = false;
      root.dataset.state = "ready";
    } catch (error) {
      if (mine !== chosen) return;
      part("save").disabled = !shown?.p; // of the image that is still shown
      say(error.message);
      root.dataset.state = "failed";
    }
  }

  function save() {
    const sheet = new OffscreenCanvas(shown.width, shown.height);
    const { picture } = painted(
      () => 255,
      () => 0,
    );
    sheet.getContext("2d").putImageData(picture, 0, 0);
    sheet.convertToBlob({ type: "image/png" }).then((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${shown.name.replace(/\.\w+$/, "")}_mask.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  part("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(file, file.name);
    event.target.value = ""; // the same file may be chosen again
  });
  for (const button of root.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => {
      const answer = fetch(new URL(button.dataset.example, folder));
      take(answer.then((found) => found.blob()), button.textContent.trim());
    });
  }
  part("threshold").addEventListener("input", draw);
  part("mask").addEventListener("change", draw);
  part("save").addEventListener("click", save);
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) take(file, file.name);
  });

  root.dataset.state = "waiting";
  window.unet = { ask, read, take }; // for tests, and for the curious
})();
