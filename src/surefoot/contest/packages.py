"""Files out of Debian packages, without installing them."""

from __future__ import annotations

import hashlib
import tarfile
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from surefoot.data import DataMissing, cache_folder, keep
from surefoot.ratings import member

_ROOT = Path("/")
_MIRROR = "https://deb.debian.org/debian/pool/main/"


class Package(NamedTuple):
    """A Debian package and what is read of it.

    Attributes:
        name: As `apt` knows it.
        path: Of its file, below the mirror's `pool/main`.
        sha256: Of that file.
        files: Its files that are read, by their places below the root.
    """

    name: str
    path: str
    sha256: str
    files: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its extracted files are kept."""
        return cache_folder() / "debian" / Path(self.path).stem

    def find(self, file: str) -> Path | None:
        """A file of it: extracted or installed; None if it is neither. The extracted one has been checked."""
        places = (self.folder / Path(file).name, _ROOT / file)
        return next((place for place in places if place.is_file()), None)

    @property
    def available(self) -> bool:
        """Whether all of its files can be read without a network."""
        return all(self.find(file) for file in self.files)

    def read(self, file: str) -> bytes:
        """One of its files.

        Raises:
            DataMissing: It has been neither fetched nor installed, or cannot be read.
        """
        place = self.find(file)
        if place is None:
            raise DataMissing(self.advice)
        try:
            return place.read_bytes()
        except OSError as error:
            raise DataMissing(
                f"{place} must be a readable file, got {error} (delete it and fetch {self.name} again)"
            ) from error

    @property
    def advice(self) -> str:
        """A sentence that says what is missing, and how to get it."""
        return (
            f"the data of the Debian package {self.name} must be on this machine, got none (run `surefoot contest fetch`, "
            f"which needs no rights and installs nothing, or install the package)"
        )

    def fetch(self) -> None:
        """Download the package from Debian's mirror, check it, and keep the files that are read.

        Raises:
            DataMissing: It could not be downloaded, or is another than the one that was named here.
        """
        address = _MIRROR + self.path
        try:
            with urlopen(address, timeout=60) as answer:  # noqa: S310 - the mirror's address is written above
                content = answer.read()
        except (OSError, HTTPException) as error:
            raise DataMissing(f"{address} must be reachable, got {error!r} (connect to the internet, and try again)") from error
        self.keep(content)

    def keep(self, content: bytes) -> None:
        """Keep the files that are read out of the package's file.

        Raises:
            DataMissing: Its checksum is another.
        """
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise DataMissing(f"the package {self.name} must have the SHA-256 {self.sha256}, got {digest} (nothing was kept)")
        with tarfile.open(fileobj=BytesIO(member(content, b"data.tar"))) as archive:
            for name in self.files:
                found = archive.extractfile(f"./{name}")
                if found is None:
                    raise DataMissing(f"the package {self.name} must hold the file {name}, got a folder or a link")
                keep(self.folder / Path(name).name, found.read())


def _r_files(package: str, *names: str) -> tuple[str, ...]:
    return tuple(f"usr/lib/R/site-library/{package}/data/{name}" for name in names)


_LAZY = ("Rdata.rdx", "Rdata.rdb")

PACKAGES = {
    package.name: package
    for package in (
        Package(
            "r-cran-mlbench",
            "r/r-cran-mlbench/r-cran-mlbench_2.1-3-1_amd64.deb",
            "2f1127f7b5e7d08703b13b52ef1976a0c355a7660d6ac575e29b87b13921bc06",
            _r_files("mlbench", "LetterRecognition.rda", "Satellite.rda", "Shuttle.rda", "DNA.rda"),
        ),
        Package(
            "r-cran-kernlab",
            "r/r-cran-kernlab/r-cran-kernlab_0.9-32-1_amd64.deb",
            "ab09291d7de965e84f808e3ae646d7043fa87e1e30cfcebec6b95d14f6828b62",
            _r_files("kernlab", "spam.rda", "ticdata.rda", "income.rda"),
        ),
        Package(
            "r-cran-modeldata",
            "r/r-cran-modeldata/r-cran-modeldata_1.1.0-1_all.deb",
            "66c2e08bb4bf695d972b1e72ea44d5af9ada3c42841793d3871017f7b896bf95",
            _r_files("modeldata", *_LAZY),
        ),
        Package(
            "r-cran-janeaustenr",
            "r/r-cran-janeaustenr/r-cran-janeaustenr_1.0.0-1_all.deb",
            "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
            _r_files("janeaustenr", *_LAZY),
        ),
        Package(
            "bible-kjv-text",
            "b/bible-kjv/bible-kjv-text_4.38_all.deb",
            "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a",
            ("usr/lib/bible.data",),
        ),
    )
}
"""Those that tasks need, by name."""
