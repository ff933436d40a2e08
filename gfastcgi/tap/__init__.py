"""Between a web server and its FastCGI program: every byte goes on as it came, and is told, kept, sent again."""
