"""How features are computed: from a project of definitions to a plan of steps, purely."""
