"""CouchDB: the client, the observation, the execution, the inspection."""
