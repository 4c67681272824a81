"""Files of npm packages, kept in build/vendor: for the website and its tests."""

import base64
import hashlib
import http.client
import io
import tarfile
import urllib.request
from pathlib import Path

from notebooks import ROOT

REGISTRY = "https://registry.npmjs.org"
# Package and version: the checksum as the registry states it, and the files we need.
KNOWN = {
    "mathjax-3.2.2": (  # draws formulas without a request to the outside
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/"
        "O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        ["es5/tex-svg.js"],
    ),
    "axe-core-4.14.1": (  # finds what keeps people from reading a page
        "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
        ["axe.min.js"],
    ),
    "onnxruntime-web-1.23.2": (  # computes the net on a page
        "T09JUtMn+CZLk3mFwqiH0lgQf+4S7+oYHHtk6uhaYAAJI95bTcKi5bOOZYwORXfS/RLZCjDDEXGWIuOCAFlEjg==",
        [
            "dist/ort.wasm.min.js",
            "dist/ort-wasm-simd-threaded.mjs",
            "dist/ort-wasm-simd-threaded.wasm",
        ],
    ),
}


def files(
    name,  # of `KNOWN`
    registry=REGISTRY,  # its address
    folder=ROOT / "build" / "vendor",  # where they stay for the next time
):  # list of Path
    "Get files once, and refuse them if the package is not what it was."
    sha512, inside = KNOWN[name]
    kept = [Path(folder) / name / Path(file).name for file in inside]
    if all(path.exists() for path in kept):
        return kept
    package, _, _ = name.rpartition("-")
    address = f"{registry}/{package}/-/{name}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            content = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{address} broke off: {error}") from error
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != sha512:
        raise OSError(f"{address} is not what it was: its sha512 is {found}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for file, path in zip(inside, kept, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_bytes(archive.extractfile(f"package/{file}").read())
            partial.replace(path)
    return kept


def script(
    name,  # of `KNOWN`, with one file
    *places,  # as for files
):  # Path
    "Get the script of a package that has one."
    (path,) = files(name, *places)
    return path
