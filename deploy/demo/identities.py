"""Who takes part in the demo mesh. Every code is of the reserved division (see `synthetic`): it is no real body's."""

from __future__ import annotations

from dataclasses import dataclass

from exchange import MemberId, SubsystemId, member_id, subsystem_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """One member of the demo mesh and the one subsystem it acts through."""

    key: str
    """Short name: of its certificate files, its adapter folder, its column in printed tables."""
    code: str
    name_zh: str
    name_en: str
    system: str
    """Last part of the subsystem identifier."""
    system_zh: str
    system_en: str

    @property
    def member(self) -> MemberId:
        """`CN/GOV/<code>`."""
        return member_id(f"CN/GOV/{self.code}")

    @property
    def subsystem(self) -> SubsystemId:
        """`CN/GOV/<code>/<system>`."""
        return subsystem_id(f"{self.member}/{self.system}")


# The codes are written out so that a search for one finds this line; a test derives each again from its parts.
TAX = "11997001DT0000019Q"
CIVIL = "11997001DT0000027K"
HOUSING = "11997001DT0000035E"
STRANGER = "11997001DT00000439"
AUDIT = "11997001DT00000514"
OPERATOR = "11997001DT000006XU"
HEALTH = "11997001DT0000078U"
LAND = "11997001DT0000086N"

DEPARTMENTS = (
    Department(
        key="tax",
        code=TAX,
        name_zh="示例市税务局",
        name_en="Sample City Tax Bureau",
        system="tax",
        system_zh="税务征管系统",
        system_en="Tax administration",
    ),
    Department(
        key="civil",
        code=CIVIL,
        name_zh="示例市民政局",
        name_en="Sample City Civil Affairs Bureau",
        system="civil",
        system_zh="民政业务系统",
        system_en="Civil affairs",
    ),
    Department(
        key="housing",
        code=HOUSING,
        name_zh="示例市住房保障局",
        name_en="Sample City Housing Bureau",
        system="housing",
        system_zh="公租房资格核查系统",
        system_en="Public rental housing",
    ),
    Department(
        key="stranger",
        code=STRANGER,
        name_zh="示例市某单位",
        name_en="Sample City Body Without Grants",
        system="stranger",
        system_zh="未获授权的系统",
        system_en="System without grants",
    ),
    Department(
        key="audit",
        code=AUDIT,
        name_zh="示例市审计局",
        name_en="Sample City Audit Bureau",
        system="audit",
        system_zh="审计系统",
        system_en="Audit",
    ),
    Department(
        key="operator",
        code=OPERATOR,
        name_zh="示例市大数据局",
        name_en="Sample City Big Data Bureau",
        system="gateway",
        system_zh="大同网关",
        system_en="Datong gateway",
    ),
    Department(
        key="health",
        code=HEALTH,
        name_zh="示例市卫生健康局",
        name_en="Sample City Health Bureau",
        system="health",
        system_zh="卫生健康信息系统",
        system_en="Health records",
    ),
    Department(
        key="land",
        code=LAND,
        name_zh="示例市自然资源局",
        name_en="Sample City Natural Resources Bureau",
        system="land",
        system_zh="不动产登记系统",
        system_en="Register of real estate",
    ),
)

(
    TAX_SUBSYSTEM,
    CIVIL_SUBSYSTEM,
    HOUSING_SUBSYSTEM,
    STRANGER_SUBSYSTEM,
    AUDIT_SUBSYSTEM,
    OPERATOR_SUBSYSTEM,
    HEALTH_SUBSYSTEM,
    LAND_SUBSYSTEM,
) = (department.subsystem for department in DEPARTMENTS)
