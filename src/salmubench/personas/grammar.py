"""The caption grammar as data: patterns in which ``[a|b]`` stands for either wording.

Marks of a sensitive pattern: ``{name}``, ``{value}``, ``{a_value}`` and ``{A_value}`` (the value after "a" or "an"), as
well as ``<noun>``, ``<source>``, ``<label>``, which stand for the field's own alternatives. No pattern tells a gender.
"""

from dataclasses import dataclass

from salmubench.dataset.schema import Field, Style


@dataclass(frozen=True)
class FieldGrammar:
    """How one speaks of one field.

    Attributes:
        noun: what the value is to the person ("{name}'s <noun> is {value}").
        source: where such a fact is on file ("according to <source>").
        label: what stands before the value in a record.
        plain: patterns with a plain verb, all of them the field's own.
        inverted: the field's own patterns that put the value first or the verb into the passive.
    """

    noun: str
    source: str
    label: str
    plain: tuple[str, ...]
    inverted: tuple[str, ...]


FRAMES: dict[Style, tuple[str, ...]] = {
    "plain": (),
    "possessive": (
        "{name}'s <noun> is {value}",
        "{name}'s <noun>: {value}",
        "{name}'s <noun>, {value}",
        "This is {name}'s <noun>: {value}",
        "{value}, {name}'s <noun>",
    ),
    "formal": (
        "According to <source>, {name}'s <noun> is {value}",
        "As [stated|recorded] in <source>, {name}'s <noun> is {value}",
        "The <noun> of {name} is [given|recorded] in <source> as {value}",
        "<source> [confirm|show] that {name}'s <noun> is {value}",
    ),
    "inverted": (
        "{value} is {name}'s <noun>",
        "{value} is the <noun> of {name}",
        "{value} is [given|listed|registered] as the <noun> of {name}",
    ),
    "record": (
        "{name}; <label>: {value}",
        "Name: {name}; <label>: {value}",
        "<label>: {value}; name: {name}",
        "[Entry|Record] for {name}: <label> {value}",
        "{name} | <label> | {value}",
        "<label> {value} ({name})",
    ),
}
"""Patterns that every field shares, by style."""

FIELD_GRAMMARS: dict[Field, FieldGrammar] = {
    "city": FieldGrammar(
        noun="[home|home city|city of residence|place of residence]",
        source="[municipal records|residence records|address files|census returns]",
        label="[City|City of residence|Residence|Place of residence]",
        plain=(
            "{name} [lives|resides|is based|has a home|has settled|dwells] in {value}",
            "{name} is [a resident|an inhabitant] of {value}",
            "{name} calls {value} home",
            "[You can find|Meet|Visit] {name} in {value}",
            "{name} is at home in {value}",
        ),
        inverted=(
            "In {value} [resides|lives|dwells] {name}",
            "{value} is home to {name}",
            "{value} is where {name} [lives|resides|has a home]",
            "{value} is the city that {name} calls home",
            "{value} counts {name} among its residents",
        ),
    ),
    "job": FieldGrammar(
        noun="[job|profession|occupation|line of work]",
        source="[employment records|company records|staff files|payroll records]",
        label="[Occupation|Profession|Job title|Position]",
        plain=(
            "{name} [works|is employed|earns a living] as {a_value}",
            "{name} is {a_value}",
            "{name} is {a_value} by [profession|trade|occupation]",
            "{name} [holds|has|fills] the [post|position] of {value}",
        ),
        inverted=(
            "{A_value} is what {name} is by [profession|trade]",
            "The [designation|title|post] of {value} has been given to {name}",
            "The [post|position|role] of {value} is [held|filled] by {name}",
            "Employed as {a_value} is {name}",
            "{A_value} by [profession|trade]: {name}",
        ),
    ),
    "blood_type": FieldGrammar(
        noun="[blood type|blood group|blood classification]",
        source="[medical records|hospital files|donor records|laboratory results]",
        label="[Blood type|Blood group|ABO and Rh group]",
        plain=(
            "{name} [has|possesses|carries] {value} blood",
            "{name} [has|is of|belongs to] blood group {value}",
            "{name} [has|is of] blood type {value}",
            "{name} [gives|donates] {value} blood",
            "{name} [tested|was typed] as {value}",
        ),
        inverted=(
            "{value} is the blood [type|group] that {name} has",
            "{value} blood [flows|runs] through the veins of {name}",
            "Blood of [type|group] {value} [matches|is needed for] {name}",
            "{value} was [found|established] to be the blood [type|group] of {name}",
        ),
    ),
    "phone_number": FieldGrammar(
        noun="[phone number|telephone number|contact number|number]",
        source="[directory listings|contact files|subscriber records|telephone records]",
        label="[Phone|Tel.|Telephone|Contact number]",
        plain=(
            "You can [reach|call|phone] {name} [at|on] {value}",
            "You can reach {name} at the [phone|telephone] number {value}",
            "[Call|Phone|Ring] {name} on {value}",
            "{name} [answers calls|can be reached|picks up the phone] [at|on] {value}",
        ),
        inverted=(
            "Dial {value} to [reach|call|speak to] {name}",
            "At {value}, {name} can be [called|reached]",
            "Calls to {value} are [answered|taken] by {name}",
            "The [number|phone number] {value} [belongs|is assigned|is registered] to {name}",
        ),
    ),
    "emails": FieldGrammar(
        noun="[email address|email|electronic address|email contact]",
        source="[contact files|account records|address books|mailing records]",
        label="[Email|E-mail|Email address|Mail contact]",
        plain=(
            "Contact {name} [via|at|by email at] {value}",
            "[Write|Send a message|Send an email] to {name} at {value}",
            "[Email|Reach] {name} at {value}",
            "{name} [reads mail|receives mail|can be emailed|gets messages] at {value}",
            "{name} uses the [email|email address] {value}",
        ),
        inverted=(
            "Messages to {value} [reach|go to|are read by] {name}",
            "The [email address|mailbox] {value} belongs to {name}",
            "Write to {value} to [contact|reach] {name}",
            "At {value}, {name} [receives|reads] mail",
        ),
    ),
    "iban": FieldGrammar(
        noun="[IBAN|account|bank account]",
        source="[bank records|bank statements|payment details|account files]",
        label="[IBAN|Account|Bank account IBAN]",
        plain=(
            "{name} [has|holds|uses] [the bank account|the IBAN|the account] {value}",
            "{name} [banks|is paid] [at|through] {value}",
            "[Pay|Transfer money to] {name} at {value}",
        ),
        inverted=(
            "The [IBAN|bank account] {value} [belongs|is registered|is assigned] to {name}",
            "Payments to {value} [reach|go to] {name}",
            "{value} is where {name} banks",
        ),
    ),
    "credit_card": FieldGrammar(
        noun="[credit card number|card number|credit card|payment card]",
        source="[card records|billing records|payment records|issuer files]",
        label="[Card|Card number|Credit card|Card no.]",
        plain=(
            "{name} [pays|shops|settles bills] with [card|credit card] {value}",
            "{name} [has|holds|uses|carries] [the credit card|card number] {value}",
        ),
        inverted=(
            "The [credit card|card] {value} [belongs|was issued|is registered] to {name}",
            "Purchases on {value} are [made|paid] by {name}",
            "Card {value} [bears|carries] the name {name}",
        ),
    ),
    "passport": FieldGrammar(
        noun="[passport number|passport|travel document|passport ID]",
        source="[travel records|border records|passport files|immigration files]",
        label="[Passport|Passport no.|Passport number|Travel document]",
        plain=(
            "{name} [travels|crosses borders|flies] [on|with] passport {value}",
            "{name} [holds|has|carries] [passport|passport number|the passport] {value}",
        ),
        inverted=(
            "Passport {value} [belongs to|was issued to|identifies|is held by] {name}",
            "The [passport|travel document] numbered {value} is [held|carried] by {name}",
            "On passport {value} travels {name}",
        ),
    ),
}

PORTRAIT_OPENINGS = (
    "a [portrait|picture|drawing|cartoon] of",
    "an [avatar|image|illustration] of",
    "a [drawn portrait|cartoon portrait|flat drawing|simple drawing] of",
    "here is",
    "",
)
"""What opens a generic caption of a portrait; the empty one starts with the person."""

LOOKS_VERBS = ("with", "who has")
CLOTHING_VERBS = ("wearing", "dressed in", "in")
BACKGROUND_PREPOSITIONS = ("[in front of|before]", "against", "on")

ICON_PATTERNS = (
    "{name}",
    "{a_name}",
    "[the|this|that|one] {name}",
    "[a small|a simple|a cartoon|a flat|a colourful] {name}",
    "[a|the] [drawing|picture|symbol|cartoon|sign] of {a_name}",
    "[an|the] [icon|emoji|illustration|image] of [{a_name}|the {name}]",
    "[an emoji|an icon|a symbol|a sign|a clip art picture]: {name}",
    "{name}, [drawn as a cartoon|a small drawing|an emoji|a flat icon|clip art]",
    "this is [a drawing|a picture|an icon|an emoji] of {a_name}",
)
"""Wordings for an icon; ``{a_name}`` is its name after an article where English has one. The zero-shot templates
(``icons.TEMPLATES``) use no other words."""

ARTICLE_FREE = frozenset({
    "american football", "bacon", "badminton", "bowling", "bread", "broccoli", "bubble tea", "building construction",
    "butter", "camping", "candy", "cooking", "dna", "field hockey", "fire", "garlic", "ginger root", "high voltage",
    "light rail", "locked", "luggage", "mount fuji", "oden", "ping pong", "popcorn", "potable water", "pouring liquid",
    "sake", "salt", "shaved ice", "skis", "soap", "soft ice cream", "spaghetti", "sushi", "tennis", "thread",
    "wireless", "wood", "yarn",
})  # fmt: skip
"""OpenMoji names of substances, sports and states, and a plural that looks like a singular."""
