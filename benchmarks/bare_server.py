"""A language server that does nothing: what any server on pygls costs at its start."""

from pygls.lsp.server import LanguageServer

if __name__ == "__main__":
    LanguageServer("bare", "0").start_io()
