from fstore.definitions.aggregation import agg as agg
from fstore.definitions.checks import check as check
from fstore.definitions.entity import Entity as Entity
from fstore.definitions.expression import expr as expr
from fstore.definitions.expression import feature as feature
from fstore.definitions.expression import transform as transform
from fstore.definitions.feature_service import FeatureService as FeatureService
from fstore.definitions.feature_view import FeatureView as FeatureView
from fstore.definitions.on_demand import on_demand as on_demand
from fstore.definitions.source import CsvSource as CsvSource
from fstore.definitions.source import ParquetSource as ParquetSource
from fstore.definitions.source import PostgresSource as PostgresSource
from fstore.definitions.source import SqlSource as SqlSource
from fstore.definitions.source import UnionSource as UnionSource
from fstore.errors import FStoreError as FStoreError
from fstore.retrieval.async_client import AsyncClient as AsyncClient
from fstore.retrieval.client import Client as Client
from fstore.retrieval.online_cache import OnlineCache as OnlineCache
from fstore.serving.http_client import AsyncHttpClient as AsyncHttpClient
from fstore.serving.http_client import HttpClient as HttpClient

__version__: str
