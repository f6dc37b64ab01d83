"""A SOAP service written with spyne, which nobody here wrote: run as a program of its own, says its port, serves until killed.

python spyne_service.py 1.1|1.2
"""

import datetime
import decimal
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

from spyne import (
    Application,
    Array,
    Boolean,
    ByteArray,
    ComplexModel,
    Date,
    DateTime,
    Decimal,
    Fault,
    Integer32,
    Iterable,
    ServiceBase,
    Unicode,
    rpc,
)
from spyne.protocol.soap import Soap11, Soap12
from spyne.server.wsgi import WsgiApplication


class Owner(ComplexModel):
    name = Unicode(min_occurs=1, nillable=False)
    share = Decimal


class Parcel(ComplexModel):
    number = Unicode(min_occurs=1, nillable=False)
    area = Decimal(min_occurs=1, nillable=False)
    registered = Date
    changed = DateTime
    mortgaged = Boolean
    map = ByteArray
    owners = Array(Owner)


class Land(ServiceBase):
    @rpc(Unicode(min_occurs=1, nillable=False), Integer32, _returns=Parcel)
    def get_parcel(ctx, number, year):  # noqa: N805  # spyne calls it so
        """Tells a parcel."""
        if number == "none":
            raise Fault("Client.NoSuchParcel", "the parcel of a person who must not be named")
        if number == "broken":
            raise RuntimeError("the database password is hunter2")
        owners = [Owner(name="例甲", share=decimal.Decimal("0.5")), Owner(name="<乙> & 丙", share=None)]
        return Parcel(
            number=number,
            area=decimal.Decimal("120.50"),
            registered=datetime.date(2020, 2, 29),
            changed=datetime.datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001  # one without a zone
            mortgaged=year == 2024,
            map=[b"\x00\xff"],
            owners=owners,
        )

    @rpc(Parcel, _returns=Parcel)
    def keep(ctx, parcel):  # noqa: N805
        return parcel

    @rpc(Integer32, _returns=Iterable(Unicode))
    def count(ctx, to):  # noqa: N805
        return [str(number) for number in range(to)]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    protocol = Soap11 if sys.argv[1] == "1.1" else Soap12
    application = Application(
        [Land], "urn:land", name="Land", in_protocol=protocol(validator="lxml"), out_protocol=protocol()
    )
    with make_server("127.0.0.1", 0, WsgiApplication(application), handler_class=Quiet) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
