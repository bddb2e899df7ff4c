# Children on pipes, a Unix socket pair, signals, regular expressions, hashes, a file that is written and read again.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use IO::Handle;
use Socket;

socketpair(my $here, my $there, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die $!;
if (!fork) {
    close $here;
    $there->autoflush(1);
    while (my $line = <$there>) { chomp $line; print $there scalar reverse($line), "\n"; }
    exit 0;
}
close $there;
$here->autoflush(1);
STDOUT->autoflush(1);
my ($state, %seen, $alarms) = ('start');
$SIG{CHLD} = sub { };
open(my $log, '+>', '/tmp/perl.log') or die $!;
for my $step (0 .. 79) {
    open(my $child, '-|', "$^X", '-MDigest::MD5=md5_hex', '-e', 'print md5_hex($ARGV[0])', $state) or die $!;
    my $answer = join '', <$child>;
    close $child or die "child: $?";
    print $here "$answer\n";
    chomp(my $back = <$here>);
    $state = md5_hex($back . join ',', map { $seen{$_} // '' } sort keys %seen);
    $seen{ substr $state, 0, 2 } = $state;
    (my $letters = $state) =~ s/(\d+)/'x' x length $1/ge;
    print $log "$step $letters\n";
    print "step $step $state\n";
}
seek $log, 0, 0;
my @lines = <$log>;
die 'lines are missing' unless @lines == 80;
close $here;
wait;
print 'end ', md5_hex(@lines), "\n";
