from fstore.testing.check import check_view as check_view
from fstore.testing.check import compute_view as compute_view
from fstore.testing.generated import FeatureTests as FeatureTests
