"""Rules of the social worker's work: why things are done, what closing rests on, who is asked whether they agree."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Final, NamedTuple

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.types import Code
from libs.contracts.vocabularies import CloseReason, ContactAgreement, ContactResult, OrientationStatus
from services.referrals.orientations.domain import ORIENTATION_LIVES


class DeclineReason(Code):
    """Why a social worker gives a referral back."""

    OUTSIDE_AREA = "outside_area", "Hors secteur"
    OUTSIDE_COMPETENCE = "outside_competence", "Hors compétence"
    OVERLOADED = "overloaded", "Charge trop élevée"
    ABSENT = "absent", "Absence"
    CLOSE_TO_PERSON = "close_to_person", "Lien avec une personne concernée"
    OTHER = "other", "Autre motif"


class OverrideReason(Code):
    """Why a safe-contact rule is passed over."""

    IMMEDIATE_DANGER = "immediate_danger", "Danger immédiat"
    PERSON_ASKED = "person_asked", "À la demande de la personne"
    RULES_OUTDATED = "rules_outdated", "Consignes dépassées, vérifiées auprès de la personne"


class CorrectionReason(Code):
    """Why what was received is corrected."""

    MISTAKE = "mistake", "Erreur à la réception"
    LEARNED = "learned", "Information apprise depuis"
    RECTIFICATION = "rectification", "Demande de rectification de la personne (RGPD, article 16)"


class CorrectedTo(Code):
    """What a correction says that is to be seen without opening it."""

    DANGER = "danger", "Danger signalé"
    NO_DANGER = "no_danger", "Danger levé"


class Misnoted(Code):
    """Why a contact, an interview or an assessment is withdrawn that was noted by mistake."""

    NOT_DONE = "not_done", "N'a pas eu lieu"
    NOTED_TWICE = "noted_twice", "Noté deux fois"
    OTHER_REFERRAL = "other_referral", "Concerne une autre saisine"
    OTHER_PERSON = "other_person", "Concerne une autre personne"
    WRONG_ENTRY = "wrong_entry", "Erreur de saisie : noté autrement à sa place"


class PostNotAvailable(Conflict):
    type: ClassVar[str] = "post-not-available"
    title: ClassVar[str] = "Poste indisponible"


class ReasonUnfounded(Conflict):
    """The reason of closing does not fit what was done."""

    type: ClassVar[str] = "close-reason-unfounded"
    title: ClassVar[str] = "Motif de clôture sans fondement"


class AnswerAwaited(Conflict):
    """A partner was asked and has not answered: its yes would reach somebody who is done with it, its no nobody who could ask another."""

    type: ClassVar[str] = "answer-awaited"
    title: ClassVar[str] = "Réponse d'un partenaire attendue"


class Helped(NamedTuple):
    """One of those whom a referral is there to help (helping.py). A minor is tried and reached through an adult of their side too, who declines for nobody else."""

    agreed: bool
    """To be contacted."""
    may_be_called: bool
    last_contact: ContactResult | None
    """Of the last attempt, by when it was made; none: never tried."""
    tried: bool
    """Otherwise than through an adult who declined and was not reached since."""
    spoken_with: bool
    """They answered in one of the contacts, or an adult through whom a minor is called was reached."""
    left: bool
    """The last attempt is to an adult who declined, for themselves alone."""
    taken: bool
    """A partner took over."""
    reported: bool
    """An information préoccupante or a report to the prosecutor about them was sent: others protect them now."""

    @property
    def is_done_with(self) -> bool:
        return self.taken or self.reported or not self.may_be_called or (self.tried and not self.left)


class Work(NamedTuple):
    """What was done with a referral, as far as closing asks."""

    statuses: frozenset[OrientationStatus]
    """Of all its orientations."""
    agreed: frozenset[OrientationStatus]
    """Of those that rest on the person's agreement, not on a legal ground."""
    helped: tuple[Helped, ...]
    refused: bool
    """Each of the victims did; without any, each of the others (helping.py)."""

    @property
    def spoken_with(self) -> bool:
        """One of those to be helped answered, and nobody waits."""
        return any(one.spoken_with for one in self.helped) and self.none_waits

    @property
    def declined(self) -> bool:
        """Who answered declined; of the others none is left alone by it."""
        return self.spoken_with and all(one.is_done_with for one in self.helped)

    @property
    def none_waits(self) -> bool:
        """Whoever agreed to be called was tried, or is with a partner; no child is left by who declined for themselves."""
        return all((one.tried or one.taken or not one.agreed) and (one.is_done_with or not one.left) for one in self.helped)


SPOKEN_WITH: Final = frozenset({ContactResult.REACHED, ContactResult.DECLINED})
"""Results of a contact in which the person answered."""

CLOSING: Final[Mapping[CloseReason, tuple[Callable[[Work], bool], str]]] = {
    CloseReason.ORIENTED: (
        lambda work: any(one.taken for one in work.helped) and work.none_waits,
        "Aucun partenaire n'a pris le relais pour une personne à aider (d'abord les victimes), ou l'une d'elles attend encore un appel :"
        " orientez-la d'abord, ou choisissez un autre motif.",
    ),
    CloseReason.COMPLETED: (
        lambda work: work.spoken_with,
        "Aucune personne à aider (d'abord les victimes) n'a encore été jointe, ou l'une d'elles attend encore un appel"
        " (aucun adulte ne décline pour un enfant) : notez d'abord le contact, ou choisissez un autre motif.",
    ),
    CloseReason.DECLINED_BY_PERSON: (
        lambda work: work.declined,
        "Aucune personne à aider (d'abord les victimes) n'a encore été jointe qui ait pu décliner, ou l'une d'elles reste sans réponse ni relais."
        " Chacun décline pour soi, aucun adulte pour un enfant : appelez cette personne, orientez-la ou faites le signalement nécessaire,"
        " ou choisissez un autre motif.",
    ),
    CloseReason.UNREACHABLE: (
        lambda work: (
            any(one.tried for one in work.helped) and work.none_waits and SPOKEN_WITH.isdisjoint(one.last_contact for one in work.helped)
        ),
        "La dernière tentative notée pour chaque personne à aider (d'abord les victimes) doit être restée sans réponse :"
        " notez-la d'abord, ou choisissez un autre motif.",
    ),
    CloseReason.CONTACT_REFUSED: (
        lambda work: work.refused,
        "Les personnes à aider (d'abord les victimes) n'ont pas toutes refusé d'être contactées : choisissez un autre motif.",
    ),
}
"""What some reasons of closing rest on; the others rest on the social worker's judgement."""


def check_closing(reason: CloseReason, work: Work) -> None:
    """Raises AnswerAwaited, ReasonUnfounded."""
    if OrientationStatus.REQUESTED in work.statuses:
        raise AnswerAwaited(
            "Un partenaire sollicité n'a pas encore répondu : attendez sa réponse, ou annulez d'abord l'orientation, pour qu'il le sache."
        )
    if reason is CloseReason.DECLINED_BY_PERSON and work.agreed & ORIENTATION_LIVES:
        raise ReasonUnfounded(
            "Un partenaire accompagne encore une personne de cette saisine : annulez d'abord l'orientation si elle y renonce,"
            " ou choisissez un autre motif.",
            more={"reason": str(reason)},
        )
    holds, sentence = CLOSING.get(reason, (None, ""))
    if holds is not None and not holds(work):
        raise ReasonUnfounded(sentence, more={"reason": str(reason)})


class AgreementUnsaid(Invalid):
    """Who was not asked is reached: that is when they are asked (DOMAIN §3, a first contact asks)."""

    type: ClassVar[str] = "agreement-unsaid"
    title: ClassVar[str] = "Accord de la personne à noter"


def check_asked(agreement: str, result: ContactResult, said: ContactAgreement | None) -> None:
    """A contact in which somebody answers who was not asked yet says whether they agree; one that nobody answers says nothing of it. Raises AgreementUnsaid."""
    if said is None and result in SPOKEN_WITH and agreement == ContactAgreement.NOT_ASKED:
        sentence = (
            "Cette personne est jointe pour la première fois : notez si elle accepte d'être contactée, refuse, ou n'a pu être interrogée."
        )
    elif said is not None and result not in SPOKEN_WITH:
        sentence = "Seule une personne jointe a pu dire si elle accepte d'être contactée."
    else:
        return
    raise AgreementUnsaid(sentence, pointers=[("/agreement", sentence)])
