"""Prints the indexing policy of the Cosmos DB container for runs: ``python -m …db_manager.indexing_policy``.

For those who make the container by themselves, as with ``az cosmosdb sql container create --idx @indexing.json``.
"""

from __future__ import annotations

import json
import sys

from ._cosmos_store import INDEXING_POLICY

if __name__ == "__main__":
    sys.stdout.write(json.dumps(INDEXING_POLICY, indent=2) + "\n")
