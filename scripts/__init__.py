"""What ``make`` runs: the example's data, the demo, a local Airflow and the servers that they need."""
