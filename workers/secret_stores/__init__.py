"""Where secrets come from: a port, and its adapters for the environment, mounted files and HashiCorp Vault.

They stand with the workers, since what runs tasks is what needs secrets; settings and log never hold one.
"""
