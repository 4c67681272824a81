"""One file of an npm package, kept in build/vendor: for the website and its tests."""

import base64
import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

from notebooks import ROOT

REGISTRY = "https://registry.npmjs.org"
# Package and version: the checksum as the registry states it, and the file we need.
KNOWN = {
    "mathjax-3.2.2": (  # draws formulas without a request to the outside
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/"
        "O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        "package/es5/tex-svg.js",
    ),
    "axe-core-4.14.1": (  # finds what keeps people from reading a page
        "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
        "package/axe.min.js",
    ),
}


def script(
    name,  # of `KNOWN`
    registry=REGISTRY,  # its address
    folder=ROOT / "build" / "vendor",  # where it stays for the next time
):  # Path of the script
    "Get a script once, and refuse it if it is not what it was."
    sha512, file = KNOWN[name]
    kept = Path(folder) / f"{name}.js"
    if kept.exists():
        return kept
    package, _, _ = name.rpartition("-")
    address = f"{registry}/{package}/-/{name}.tgz"
    with urllib.request.urlopen(address, timeout=60) as answer:
        content = answer.read()
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != sha512:
        raise ValueError(f"{address} is not what it was: its sha512 is {found}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        text = archive.extractfile(file).read()
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    partial.write_bytes(text)
    return partial.replace(kept)
