"""The scheduler: partition owners that decide commands, and the Faust app that feeds them."""
