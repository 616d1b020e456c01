"""Package `mmpt`. Pinned versions that work together are in requirements*.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mmpt" / "__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="mmpt",
    version=VERSION,
    description="SignCLIP: text and sign-language video in one latent space, by contrastive learning",
    long_description=(HERE / "README.md").read_text(encoding="utf-8")
    if (HERE / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["mmpt", "mmpt.*"]),
    package_data={"mmpt.config": ["*.json"]},
    # Needed for embedding and evaluation. Looser than requirements.txt, because other projects import mmpt.
    install_requires=[
        "torch>=2.6",
        "transformers>=5",
        "omegaconf>=2.3",
        "numpy>=1.26,<2",
        "scikit-learn>=1.4",
        "pose-format>=0.15",
        "safetensors>=0.4",
        "tqdm>=4.66",
        "matplotlib>=3.8",
        "pyarrow>=17",
        "filelock>=4.2",
    ],
    extras_require={
        # ve-fairseq is fairseq for current Pythons. It declares torchaudio, which nothing here needs and
        # which breaks a CPU torch: `make install` installs it with --no-deps after its real needs: these.
        "train": [
            "hydra-core>=1.3",
            "bitarray",
            "sacrebleu",
            "regex",
            "cffi",
            "Cython",
            "tensorboard",
            "peft>=0.17",
        ],
        "search": ["faiss-cpu>=1.10"],
        "extract": ["mediapipe==0.10.21", "av>=14"],
        "dev": ["pytest", "hypothesis", "ruff", "mypy", "pre-commit"],
    },
)
