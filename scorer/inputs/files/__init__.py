"""Where the bytes come from: files, folders, archives, URLs and standard input, unpacked."""
