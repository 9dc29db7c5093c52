"""A DAG of another team, run once per published day of the purchases."""

from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, task

published = Asset(name="shop.user_purchases", uri="x-fstore://shop/user_purchases")

with DAG("consumer", schedule=PartitionedAssetTimetable(assets=published), catchup=False, is_paused_upon_creation=False):

    @task
    def use(dag_run=None):
        """Print the day."""
        print("partition", dag_run.partition_key)

    use()
