"""How what events only number is called: the names of services, posts, units and communes, kept beside the copies that events keep (thin: without names)."""
