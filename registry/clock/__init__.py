"""The statutory clock: working days in China, what each jurisdiction allows, and deadlines counted from both."""
