"""Text files over SFTP: the files plugin, with the files on another machine."""

from anchovies.plugins.files import CsvDownloader as FilesCsvDownloader
from anchovies.plugins.sftp.connection import SftpConnection
from anchovies.plugins.sftp.place import SftpPlace
from anchovies.plugins.sftp.trust import trust_command

PLUGIN = {
    "name": "sftp",
    "summary": "CSV and TSV files over SFTP, new and changed ones only",
    "extra": "sftp",
    "requires": ["asyncssh"],
    "operators": {"CsvDownloader": "reads CSV and TSV files over SFTP, plain or gzip, new and changed ones only"},
    "reads": {"sftp": "CsvDownloader"},
    "connections": {"SftpConnection": "an SFTP server, by password or key; its host key must be known"},
    "commands": {"trust": "anchovies.plugins.sftp:trust_command"},
}


class CsvDownloader(FilesCsvDownloader):
    """CSV and TSV files of an SFTP server; everything else as in `files.CsvDownloader`."""

    connection_cls = SftpConnection

    def place(self) -> SftpPlace:
        return SftpPlace(self.cnxn)


__all__ = ["PLUGIN", "CsvDownloader", "SftpConnection", "SftpPlace", "trust_command"]
