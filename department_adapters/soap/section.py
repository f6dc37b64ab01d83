"""`source = "soap"`: a service that the department's SOAP service answers, offered as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from department_adapters.http.section import OutboundSection
from department_adapters.section import ContractError, File, Section, resolved
from department_adapters.source import Source

if TYPE_CHECKING:
    from department_adapters.soap.operation import SoapOperation
    from department_adapters.soap.wsdl import Wsdl


def _plain(text: str) -> str:
    return resolved(text, quoted=False)


def _secret(text: str) -> str:
    if not (text.startswith("${") and text.endswith("}")):
        raise ValueError("no secret stands in the file: write ${NAME}, and set that variable")
    return _plain(text)


class SoapOperationSection(Section):
    """One `[[services.CODE.operations]]`."""

    path: str = Field(pattern=r"^/")
    soap: str = Field(min_length=1, description="The operation's name in the WSDL.")
    method: Literal["GET", "POST"] = "POST"
    parameters: dict[str, str] = Field({}, description="Parameter -> member of the question.")
    fixed: dict[str, Annotated[str, AfterValidator(_plain)]] = Field(
        {}, repr=False, description="Member of the question -> text that is always sent; ${NAME} for a secret."
    )
    result: str = Field("", description="Member of the answer that is told instead of the whole.")

    def operation(self) -> SoapOperation:
        """As the source takes it."""
        from department_adapters.soap.operation import SoapOperation

        return SoapOperation(
            path=self.path,
            soap=self.soap,
            method=self.method,
            parameters=self.parameters,
            fixed=self.fixed,
            result=self.result,
        )


class SoapService(OutboundSection):
    """A WSDL's operations. The keys of `source = "http"` for the connection hold here, too."""

    source: Literal["soap"]
    wsdl: File = Field(
        description="The WSDL, a file; what it imports lies in its folder, or is named under `documents`."
    )
    port: str = Field("", description="Name of the port; default: the first one with SOAP over HTTP.")
    documents: dict[str, File] = Field({}, description="Location in an import -> file that was saved from there.")
    address: Annotated[str, AfterValidator(_plain)] = Field(
        "", description="Where the service is; default: what the WSDL says."
    )
    username: Annotated[str, AfterValidator(_plain)] = Field("", description="Of a WS-Security UsernameToken.")
    password: Annotated[str, AfterValidator(_secret)] | None = Field(
        None, repr=False, description="Its password, ${NAME}."
    )
    password_type: Literal["text", "digest"] = "text"
    max_envelope: int = Field(8 << 20, gt=0, description="Largest answer in bytes; it is held in memory as a whole.")
    faults: dict[str, Annotated[int, Field(ge=400, le=499)]] = Field(
        {}, description="Name of a fault (of its detail, its subcode or its code) -> status to answer it with."
    )
    operations: list[SoapOperationSection] = Field(
        [], description="What is offered; none: every operation of the WSDL, as POST /{operation}."
    )

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password go together")
        return self

    def read_wsdl(self) -> Wsdl:
        """The WSDL; raises ContractError."""
        from department_adapters.soap.model import SchemaError
        from department_adapters.soap.wsdl import load_wsdl

        try:
            return load_wsdl(self.wsdl, port=self.port, documents=self.documents)
        except SchemaError as error:
            raise ContractError(str(error)) from error

    def make_source(self, *, max_answer: int) -> Source:
        from department_adapters.soap.model import SchemaError
        from department_adapters.soap.security import UsernameToken
        from department_adapters.soap.source import SoapSource

        wsdl = self.read_wsdl()
        url = urlsplit(self.address or wsdl.address)
        token = None
        if self.password is not None:
            token = UsernameToken(username=self.username, password=self.password, kind=self.password_type)
        try:
            return SoapSource(
                wsdl,
                self.http_source(f"{url.scheme}://{url.netloc}", max_answer=min(max_answer, self.max_envelope)),
                f"{url.path or '/'}{'?' + url.query if url.query else ''}".encode("ascii"),
                [each.operation() for each in self.operations],
                faults=self.faults,
                token=token,
            )
        except (SchemaError, ValueError) as error:
            raise ContractError(f"{self.wsdl}: {error}") from error

    def placed(self, home: Path) -> Self:
        files = {location: home / file for location, file in self.documents.items()}
        return super().placed(home).model_copy(update={"wsdl": home / self.wsdl, "documents": files})
