"""A codec: what is stored is not the JSON of arguments and results, but what you make of it. In earnest: encrypted."""

from __future__ import annotations

import asyncio
import base64
import tempfile
import zlib
from pathlib import Path

import durable


class Compressed:
    """Text in, text out; pure. `decode` must refuse what `encode` did not give."""

    def encode(self, text: str) -> str:
        return base64.b85encode(zlib.compress(text.encode())).decode()

    def decode(self, text: str) -> str:
        return zlib.decompress(base64.b85decode(text)).decode()


@durable.workflow
async def diary(entry: str) -> str:
    """Nobody else's business."""
    durable.set_var("entry", entry)
    return entry[::-1]


def written_in(folder: Path) -> bytes:
    """All that is in the files."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def main() -> None:
    """The words are not in the file; a client without the codec cannot read them."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/diary.db"
        async with durable.connect(url, codec=Compressed()) as client, durable.Worker(client, [diary]):
            instance = await client.create_instance(diary, "dear diary, " * 20, id="d")
            assert (await instance).startswith(" ,yraid")
            assert (await instance.vars())["entry"].startswith("dear diary")
        assert b"dear diary" not in written_in(Path(folder))
        async with durable.connect(url) as client:
            try:
                await client.get_instance("d")
            except durable.PayloadError as error:
                print(error)


if __name__ == "__main__":
    asyncio.run(main())
