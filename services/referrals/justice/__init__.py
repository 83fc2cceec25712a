"""Child protection and justice: what was sent to the département or to the prosecutor, and the register of judicial requisitions."""
