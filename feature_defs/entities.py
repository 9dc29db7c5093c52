"""What the flight features describe."""

from fstore import Entity

carrier = Entity("carrier", join_keys={"carrier": "string"}, description="An airline, by its two-letter code.")
origin = Entity("origin", join_keys={"origin": "string"}, description="An airport of New York that flights leave from.")
aircraft = Entity("aircraft", join_keys={"tailnum": "string"}, description="An aircraft, by its tail number.")
route = Entity("route", join_keys={"origin": "string", "dest": "string"}, description="A pair of airports.")
airport = Entity("airport", join_keys={"airport": "string"}, description="An airport, by its three-letter code.")
