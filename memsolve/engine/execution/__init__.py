"""Where the work of a study is executed: in this process or in a worker."""
