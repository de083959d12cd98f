"""``connection=`` on PostgreSQL leaves the caller's transaction as it was, however that was begun."""

from __future__ import annotations

import asyncpg
import pytest

import durable


@durable.workflow
async def deliver(order: str) -> str:
    return order


@pytest.mark.parametrize("patience", ["0", "1234ms"])
async def test_a_transaction_begun_by_a_statement_keeps_its_settings(
    postgres_url: str, patience: str
) -> None:
    async with durable.connect(postgres_url) as client:
        db = await asyncpg.connect(postgres_url)
        await db.execute(f"BEGIN; SET LOCAL lock_timeout = '{patience}'")
        await client.create_instance(deliver, "o", id="o", connection=db)
        assert await db.fetchval("SELECT current_setting('lock_timeout')") == patience
        with pytest.raises(durable.InstanceAlreadyExists):
            await client.create_instance(deliver, "o", id="o", connection=db)
        assert await db.fetchval("SELECT current_setting('lock_timeout')") == patience
        await db.execute("COMMIT")
        await db.close()
        assert (await client.get_instance("o").describe()).state == "running"
