"""The first draft of an adapter: a folder that runs, from a document, a table, files or a WSDL."""
