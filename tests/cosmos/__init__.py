"""Azure Cosmos DB: the backend, and the server that it is tested against."""
