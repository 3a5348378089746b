"""Text files of a local folder, new and changed ones only; the base that other file plugins build on."""

from anchovies.plugins.files.downloader import CsvDownloader
from anchovies.plugins.files.folder import FolderConnection
from anchovies.plugins.files.place import Chunks, FileInfo, FilePlace

PLUGIN = {
    "name": "files",
    "summary": "CSV and TSV files of a local folder, new and changed ones only",
    "extra": "",
    "requires": [],
    "operators": {"CsvDownloader": "reads CSV and TSV files, plain or gzip, new and changed ones only"},
    "reads": {"file": "CsvDownloader"},
    "connections": {"FolderConnection": "a folder of this machine"},
    "commands": {},
}

__all__ = ["PLUGIN", "Chunks", "CsvDownloader", "FileInfo", "FilePlace", "FolderConnection"]
