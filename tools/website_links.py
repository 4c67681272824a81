"""Where a link of a notebook or a text leads on the website: `make site`.

A link to a page that the site has becomes one inside it; all other files of the
repository are linked on GitHub.
"""

import posixpath
import re

import links
from notebooks import NBS, ROOT, settings

# Code in fences and between backticks stays as it is.
CODE = re.compile(r"(^ *```.*?^ *```|`+[^`\n]+`+)", re.M | re.S)
NAME = re.compile(r"\d\d_\w+")  # of a notebook
LINK = re.compile(r"\]\(([^()\s]+)\)")
PAGES = {
    "README.md": "index.ipynb",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "results": "results/index.md",
    "examples": "examples.md",
    "experiments": "results/index.md",
}
SHOWN = {  # the other way round
    "404": "tools/website.py",
    "api/index": "unet_tutorial",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "examples": "examples",
    "net": "site/net/page.md",
    "results/index": "results",
}


def page_of(
    path,  # str relative to the repository, such as "unet_tutorial/data/images.py"
):  # str relative to the site's sources, such as "api/data.images.md"; None: no page
    "The page of the site that shows a file of the repository."
    folder, _, name = path.partition("/")
    stem, kind = posixpath.splitext(name)
    if path in PAGES:
        return PAGES[path]
    if folder == "nbs" and kind in (".ipynb", ".md"):
        return name
    if folder == "unet_tutorial" and kind == ".py" and "_" not in (stem[0], stem[-1]):
        module = stem.replace("/", ".")
        return None if module.startswith("lessons") else f"api/{module}.md"
    if folder == "results" and kind == ".csv":
        return f"results/{stem}.md"
    return "examples.md" if folder == "examples" else None


def file_of(
    page,  # the name of a page, such as "api/data.images"
):  # str relative to the repository
    "The file that a page shows; of a list of files, their folder."
    folder, _, name = page.partition("/")
    if page in SHOWN:
        return SHOWN[page]
    if folder == "api":
        return f"unet_tutorial/{name.replace('.', '/')}.py"
    if folder == "results":
        return f"results/{name}.csv"
    kind = "ipynb" if (NBS / f"{page}.ipynb").is_file() else "md"
    return f"nbs/{page}.{kind}"


def in_repository(
    path,  # str relative to the repository
    config=None,  # mapping with `user`, `repo`, `branch`; None: `settings.ini`
):  # str
    "The address of a file or a folder on GitHub."
    address = links.in_repository(config or settings(), path)
    return address.replace("/blob/", "/tree/") if (ROOT / path).is_dir() else address


def resolved(
    target,  # what is between the round brackets of a link
    file,  # str: where the link is, relative to the repository
    page,  # str: the page that shows it, relative to the site's sources
):  # str, the target on the site
    "A link as the site has it: to a page beside it, or to an address of the web."
    config = settings()
    path, hash_, anchor = target.partition("#")
    blob = links.in_repository(config, "")
    if path.startswith(blob):
        path = path.removeprefix(blob)
    elif not path or re.match(r"[a-z]+:", path):
        return target
    else:
        path = posixpath.join("/", posixpath.dirname(file), path)
        path = posixpath.normpath(path).lstrip("/")
    there = page_of(path)
    if there is None:
        return in_repository(path, config) + hash_ + anchor
    there = posixpath.relpath(there, posixpath.dirname(page) or ".")
    return there + hash_ + anchor


def relinked(
    text,  # str, Markdown
    file,  # str: where it is, relative to the repository
    page,  # str: the page that shows it, relative to the site's sources
    titles=None,  # dict of a link's target to what is shown when one points at it
):  # str
    "A text with its links as the site has them; code stays as it is."

    def one(found):
        there = resolved(found[1], file, page)
        said = (titles or {}).get(posixpath.basename(there))
        return f'](<{there}> "{said}")' if said else f"]({there})"

    parts = CODE.split(text)
    # A link's text may hold code, so its end may come behind a piece of code.
    for at in range(0, len(parts), 2):
        parts[at] = LINK.sub(one, parts[at])
    for at in range(1, len(parts), 2):
        name, before = parts[at].strip("`"), parts[at - 1]
        linked = before.rfind("[") > before.rfind("]")
        known = NAME.fullmatch(name) and (NBS / f"{name}.ipynb").is_file()
        if known and not linked:
            there = resolved(f"/nbs/{name}.ipynb", file, page)
            parts[at] = f"[{parts[at]}]({there})"
    return "".join(parts)
