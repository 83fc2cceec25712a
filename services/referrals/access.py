"""Who may do what with referrals. The perimeter (whose post, which département, which organization) is checked in commands and queries: outside it is 404."""

from libs.chassis.access import PUBLIC, AccessTable, Rule
from libs.contracts.vocabularies import Role

_POLICE = Rule(roles={Role.POLICE})
_ISCG = Rule(roles={Role.ISCG})
_PARTNER = Rule(roles={Role.PARTNER})
_COORDINATOR = Rule(roles={Role.COORDINATOR})
_WORKING = {Role.ISCG, Role.COORDINATOR}
_AT_DESK = {*_WORKING, Role.PARTNER}
_OPEN_PAGE = Rule(public=True, page=True)

ACCESS = AccessTable(
    {
        "receive_referral": _POLICE,
        "receive_referrals": _POLICE,
        "list_referral_statuses": _POLICE,
        "read_referral_status": _POLICE,
        "search_referral_statuses": _POLICE,
        "list_referrals": Rule(roles={*_WORKING, Role.SERVICE}),
        "count_referrals": Rule(roles=_WORKING),
        "read_referral": Rule(roles=_WORKING, purpose=True),
        "export_person": Rule(roles=_WORKING, purpose=True),
        "export_person_document": Rule(roles=_WORKING, purpose=True),
        "erase_persons": _COORDINATOR,
        "list_erasures": Rule(roles={Role.COORDINATOR, Role.ADMINISTRATOR, Role.AUDITOR}),
        "read_erasure": Rule(roles={Role.COORDINATOR, Role.ADMINISTRATOR, Role.AUDITOR}),
        "confirm_erasure": Rule(roles={Role.COORDINATOR, Role.ADMINISTRATOR}),
        "search_persons": Rule(roles=_WORKING, purpose=True),
        "read_routing": Rule(roles=_WORKING),
        "assign_referral": _COORDINATOR,
        "accept_referral": _ISCG,
        "decline_referral": _ISCG,
        "transfer_referral": _ISCG,
        "attempt_contact": _ISCG,
        "hold_interview": _ISCG,
        "record_assessment": _ISCG,
        "record_alert": Rule(roles=_WORKING),
        "list_alerts": Rule(roles=_WORKING, purpose=True),
        "record_requisition": Rule(roles=_WORKING),
        "list_requisitions": Rule(roles={Role.COORDINATOR, Role.AUDITOR}),
        "read_requisition": Rule(roles={Role.COORDINATOR, Role.AUDITOR}, purpose=True),
        "correct_referral": Rule(roles=_WORKING),
        "list_corrections": Rule(roles=_WORKING, purpose=True),
        "read_timeline": Rule(roles=_WORKING, purpose=True),
        "close_referral": Rule(roles=_WORKING),
        "reopen_referral": Rule(roles=_WORKING),
        "request_orientation": _ISCG,
        "list_orientations": Rule(roles={*_WORKING, Role.PARTNER}),
        "count_orientations": Rule(roles={*_WORKING, Role.PARTNER}),
        "read_orientation": Rule(roles={*_WORKING, Role.PARTNER}, purpose=True),
        "accept_orientation": _PARTNER,
        "reject_orientation": _PARTNER,
        "start_orientation": _PARTNER,
        "complete_orientation": _PARTNER,
        "fail_orientation": _PARTNER,
        "cancel_orientation": _ISCG,
        "make_orientation_link": _ISCG,
        "show_answer_page": PUBLIC,
        "answer_by_link": PUBLIC,
        "read_answer_style": PUBLIC,
        # the web desk
        "read_desk_style": PUBLIC,
        "find_desk": _OPEN_PAGE,
        "miss_page": _OPEN_PAGE,
        "show_desk": _OPEN_PAGE,
        "begin_sign_in": _OPEN_PAGE,
        "finish_sign_in": _OPEN_PAGE,
        "ask_sign_out": Rule(roles=_AT_DESK, page=True),
        "sign_out": Rule(roles=_AT_DESK, page=True),
        "ask_purpose": Rule(roles=_AT_DESK, page=True),
        "state_purpose": Rule(roles=_AT_DESK, page=True),
        "show_worklist": Rule(roles=_WORKING, page=True),
        "show_referral": Rule(roles=_WORKING, page=True, purpose=True),
        "search_services": Rule(roles={Role.ISCG}, page=True, purpose=True),
        "orient": Rule(roles={Role.ISCG}, page=True, purpose=True),
        "show_orientations": Rule(roles=_AT_DESK, page=True),
        "show_orientation": Rule(roles=_AT_DESK, page=True, purpose=True),
        "link_orientation": Rule(roles={Role.ISCG}, page=True, purpose=True),
        "answer_orientation": Rule(roles=_AT_DESK, page=True, purpose=True),
        "download_export": Rule(roles=_WORKING, page=True),
        "show_move": Rule(roles=_WORKING, page=True, purpose=True),
        "show_person_correction": Rule(roles=_WORKING, page=True, purpose=True),
        "correct_person": Rule(roles=_WORKING, page=True, purpose=True),
        "show_person_addition": Rule(roles=_WORKING, page=True, purpose=True),
        "add_person": Rule(roles=_WORKING, page=True, purpose=True),
        "show_corrections": Rule(roles=_WORKING, page=True, purpose=True),
        "make_move": Rule(roles=_WORKING, page=True, purpose=True),
        "read_notice_preference": Rule(roles={*_WORKING, Role.PARTNER}),
        "put_notice_preference": Rule(roles={*_WORKING, Role.PARTNER}),
    }
)
