#!/usr/bin/perl
# An authorizer in Perl: lets through who comes with the cookie SID of a session.
#
# Run by "bin-path" => "/usr/bin/perl authorizer.pl" with the module FCGI (Debian: libfcgi-perl). The folder SESSIONS
# ("bin-environment") holds a file for each session: its name is the session's secret of 16 to 64 letters and digits,
# its first line the user. docs/authorizers.md says what is asked and what follows from answers.
use strict;
use warnings;
use FCGI;

my $sessions = $ENV{SESSIONS};
if (!defined $sessions || !-d $sessions) {
    print STDERR "authorizer: no folder SESSIONS in the environment\n";
    exit 1;
}

# The user of a session, or nothing.
sub find_user {
    my ($cookies) = @_;
    # Nothing but letters and digits: it becomes a file's name.
    my ($session) = $cookies =~ /(?:^|;)[ ]*SID=([A-Za-z0-9]{16,64})[ ]*(?:;|\z)/ or return;
    open my $file, '<', "$sessions/$session" or return;
    my $user = <$file> // '';
    close $file;
    return $user =~ /^([\x20-\x7e]+)/ ? $1 : undef;
}

my %asked;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%asked);
while ($request->Accept() >= 0) {
    my $user = find_user($asked{HTTP_COOKIE} // '');
    if (defined $user) {
        print "Status: 200 OK\r\n";
        print "Variable-REMOTE_USER: $user\r\n";
        # Where the gateway keeps decisions ("cache"): this one for a minute. A yes for all that lies in a folder would
        # be "Variable-GFASTCGI_GRANT: path=/maps/12/; ttl=300".
        print "Cache-Control: max-age=60\r\n\r\n";
    } else {
        print "Status: 403 Forbidden\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\r\n";
        print "Please log in.\n";
    }
}
