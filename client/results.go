package client

import "cloakroom"

const (
	resultsOpen   = `{"results":[`
	resultID      = `{"id":"`
	resultVersion = `","version":"`
	resultClose   = `"}`
	versionLen    = 16
	resultLen     = len(resultID) + cloakroom.PseudonymTextLen + len(resultVersion) + versionLen + len(resultClose)
)

// plainResults reads the answer to a batch of n items if every item succeeded
// and it is written without white space: then all results have one length and
// nothing has to be tokenised. It checks everything before it hands anything
// over, and says false for any other answer, which is no error.
func plainResults(body []byte, n int, each func(i int, d Deposited)) bool {
	if n == 0 || !hasPrefix(body, resultsOpen) {
		return false
	}
	body = body[len(resultsOpen):]
	size := n * (resultLen + 1) // each with a comma, the last with a bracket
	if len(body) < size || string(body[size:]) != "}" && string(body[size:]) != "}\n" {
		return false
	}
	for i := range n {
		r, end := body[i*(resultLen+1):], byte(',')
		if i == n-1 {
			end = ']'
		}
		if !plainResult(r[:resultLen]) || r[resultLen] != end {
			return false
		}
	}
	for i := range n {
		r := body[i*(resultLen+1):]
		id, _ := cloakroom.ParsePseudonym(r[len(resultID) : len(resultID)+cloakroom.PseudonymTextLen])
		v := r[resultLen-len(resultClose)-versionLen:]
		each(i, Deposited{ID: id, Version: string(v[:versionLen])})
	}
	return true
}

// plainResult reports whether r, of resultLen bytes, is {"id":…,"version":…}
// with a good pseudonym and a version of hex digits.
func plainResult(r []byte) bool {
	at := len(resultID)
	if !hasPrefix(r, resultID) {
		return false
	}
	if _, err := cloakroom.ParsePseudonym(r[at : at+cloakroom.PseudonymTextLen]); err != nil {
		return false
	}
	at += cloakroom.PseudonymTextLen
	if !hasPrefix(r[at:], resultVersion) {
		return false
	}
	at += len(resultVersion)
	_, err := cloakroom.ParseVersion(r[at : at+versionLen])
	return err == nil && string(r[at+versionLen:]) == resultClose
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}
