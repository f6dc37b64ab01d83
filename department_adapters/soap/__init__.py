"""A department's SOAP service as a source: its WSDL read, its operations offered as JSON."""
