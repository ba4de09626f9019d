package policy

// Action is one thing a caller can ask for. The zero Action is in no grant.
type Action uint8

// The actions. Their names stand in grants and in the audit log.
const (
	Deposit     Action = iota + 1 // create or replace a subject
	Update                        // change some fields of a subject
	Resolve                       // turn many pseudonyms into values
	Read                          // get one subject
	Erase                         // remove a subject for good
	SchemaRead                    // see the declared fields
	SchemaWrite                   // declare fields
	Status                        // see how the node is
	Metrics                       // scrape the metrics
	Events                        // be told which subjects change
	Access                        // make and revoke principals
	Operate                       // run the nodes
	Custody                       // let a node have the keys
	Audit                         // see what others did and may do

	lastAction = Audit
)

var actionNames = [...]string{
	Deposit: "deposit", Update: "update", Resolve: "resolve", Read: "read",
	Erase: "erase", SchemaRead: "schema-read", SchemaWrite: "schema-write",
	Status: "status", Metrics: "metrics", Events: "events",
	Access: "access", Operate: "operate", Custody: "custody", Audit: "audit",
}

// String returns the name of the action, "none" for what is no action.
func (a Action) String() string {
	if a == 0 || a > lastAction {
		return "none"
	}
	return actionNames[a]
}

// ParseAction returns the action of that name.
func ParseAction(name string) (Action, bool) {
	for a := Deposit; a <= lastAction; a++ {
		if actionNames[a] == name {
			return a, true
		}
	}
	return 0, false
}

// Actions is a set of actions.
type Actions uint16

// NewActions returns the set of the given actions.
func NewActions(list ...Action) Actions {
	var s Actions
	for _, a := range list {
		if a != 0 && a <= lastAction {
			s |= 1 << a
		}
	}
	return s
}

// AllActions returns the set of every action there is.
func AllActions() Actions { return 1<<(lastAction+1) - 1<<Deposit }

// Has says whether a is in the set.
func (s Actions) Has(a Action) bool {
	return a != 0 && a <= lastAction && s&(1<<a) != 0
}

// Form is how much of a value a reader is shown. A grant for one form covers
// the lesser ones: plain > masked > present.
type Form uint8

const (
	Unnamed Form = iota // in a request: the fullest granted; in a grant: none
	Present             // only whether there is a value
	Masked              // the value with most of it hidden, by type of field
	Plain               // the value
)

var formNames = [...]string{Unnamed: "", Present: "present", Masked: "masked", Plain: "plain"}

// String returns the name of the form, "" for [Unnamed] and for no form.
func (f Form) String() string {
	if f > Plain {
		return ""
	}
	return formNames[f]
}

// ParseForm returns the form of that name; the empty name is [Unnamed]. The
// name may live in guarded memory: it is compared in place and not kept.
func ParseForm(name []byte) (Form, bool) {
	for f, known := range formNames {
		if string(name) == known {
			return Form(f), true
		}
	}
	return Unnamed, false
}
