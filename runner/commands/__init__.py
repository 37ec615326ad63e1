"""The subcommands of kpod, a file each; imported only when called."""
