"""Target delays: until when the first contact is to be attempted, and what is said when it was not (DOMAIN §3: configurable per agreement)."""
