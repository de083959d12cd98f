"""Durable workflows for asyncio."""
