"""The bundled models, and the grammar and the script that made them."""
