"""Build the package from `settings.ini`, the one source of its name and needs."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

config = ConfigParser(delimiters=["="])
config.read(HERE / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

tested = [int(settings[key].split(".")[1]) for key in ("min_python", "max_python")]
extras = {
    key.removesuffix("_requirements"): settings[key].split()
    for key in settings
    if key.endswith("_requirements")
}
extras["dev"] = extras["course"] + extras["dev"]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    url=settings["git_url"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=settings["keywords"],
    packages=find_packages(include=[settings["lib_path"], f"{settings['lib_path']}.*"]),
    package_data={
        settings["lib_path"]: [
            "py.typed",
            "recipes/*.json",
            "quiz/*.json",
            "nets/*.safetensors",
        ]
    },
    # No upper bound: a new Python must not kill the first cell of every notebook.
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": ["unet-tutorial = unet_tutorial.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Image Processing",
        *(
            f"Programming Language :: Python :: 3.{number}"
            for number in range(tested[0], tested[1] + 1)
        ),
    ],
    zip_safe=False,
)
