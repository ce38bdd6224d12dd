"""Other programs that open our exports: what each reads, and how equal that is to Biject."""
